"""From a log and a catalogue to clean histories, splits and batches."""
