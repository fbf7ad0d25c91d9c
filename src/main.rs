//! genregrad
fn main() {}
