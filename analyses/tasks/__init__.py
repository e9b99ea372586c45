"""Parts of `task_geometry`: conditions, what is measured on their means, the finding and its figure."""
