gretchen::records!("../../../../macros/ui/tests/ui/records/bad_default.avsc");

fn main() {}
