"""What pages and pictures share: words for figures, drawings as SVG, the style sheet, files."""
