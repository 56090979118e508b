"""pocketrec: a recommender that lives inside the app."""
