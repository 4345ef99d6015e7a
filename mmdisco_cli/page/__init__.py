"""The pages that show clips: what `mmdisco sample` made, what `mmdisco eval` measured."""
