"""What each instrument is set before, and what it must then read: one module for each topic."""
