gretchen::records!("../../../../macros/ui/tests/ui/records/union_and_type_clash.avsc");

fn main() {}
