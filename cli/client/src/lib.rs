//! Tables, terminal handling and errors shared by the command lines.
