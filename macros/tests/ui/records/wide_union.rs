gretchen::records!("../../../../macros/tests/ui/records/wide_union.avsc");

fn main() {}
