"""`make bench`: the figures of the design's targets, each beside a floor taken in the same run."""
