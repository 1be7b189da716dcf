gretchen::records!("../../../../macros/ui/tests/ui/records/wide_union.avsc");

fn main() {}
