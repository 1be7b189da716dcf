gretchen::records!("../../../../macros/ui/tests/ui/records/empty_enum.avsc");

fn main() {}
