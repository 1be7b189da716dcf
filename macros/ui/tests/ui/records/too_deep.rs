gretchen::records!("../../../../macros/ui/tests/ui/records/too_deep.avsc");

fn main() {}
