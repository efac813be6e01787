"""The command `zoo`: commands by subject, each thin over the library. Imports zootool and dng when they run."""
