"""The sweep: every model of transformers, timm, torchvision and open_clip that builds small is explained and checked."""
