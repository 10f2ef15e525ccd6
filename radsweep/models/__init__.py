"""Encoders by timm name, text towers, and published weights in both directions."""
