gretchen::records!("../../../../macros/ui/tests/ui/records/unknown_type.avsc");

fn main() {}
