gretchen::records!("schemas/missing.avsc", "schemas/missing_too.avsc");

fn main() {}
