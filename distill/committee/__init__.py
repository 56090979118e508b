"""The committee: several teachers combined into one distribution, and the soft labels written from it."""
