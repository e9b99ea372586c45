"""What analyses ask with: prompts, answers, texts, and intervals over them."""
