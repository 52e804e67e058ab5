"""How often each n-gram of bases occurs, and how much more often than its pieces foretell (NPMI)."""
