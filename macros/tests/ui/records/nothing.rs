gretchen::records!();

fn main() {}
