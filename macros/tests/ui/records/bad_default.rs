gretchen::records!("../../../../macros/tests/ui/records/bad_default.avsc");

fn main() {}
