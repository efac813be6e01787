"""Publishing zoos, pulling them, and the pages and cards that show them. May import all of zootool."""
