"""Plain nn.Modules: networks and the layers they share. No losses, no training."""
