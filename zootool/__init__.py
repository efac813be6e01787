"""zootool: populations of trained networks as data. Build, collect, convert, load, share."""
