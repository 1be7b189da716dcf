gretchen::records!("../../../../macros/tests/ui/records/empty_enum.avsc");

fn main() {}
