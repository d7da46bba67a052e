"""From text to vector, from vector to neighbours, from scores to an order."""
