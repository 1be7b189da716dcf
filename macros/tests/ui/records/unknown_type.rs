gretchen::records!("../../../../macros/tests/ui/records/unknown_type.avsc");

fn main() {}
