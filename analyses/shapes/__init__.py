"""Parts of `geometry`: streamed sums of each site, the lines made of them, and how they are drawn."""
