"""Any other detectron2 R-CNN in the place of the bottom-up-attention network."""
