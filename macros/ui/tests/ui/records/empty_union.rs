gretchen::records!("../../../../macros/ui/tests/ui/records/empty_union.avsc");

fn main() {}
