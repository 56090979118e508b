"""From a trained student to a bundle: graph writers, parity checks, the bundle writer."""
