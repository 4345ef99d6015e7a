"""Networks with weights whose features or scores `mmdisco eval` compares."""
