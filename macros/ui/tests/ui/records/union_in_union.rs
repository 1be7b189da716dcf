gretchen::records!("../../../../macros/ui/tests/ui/records/union_in_union.avsc");

fn main() {}
