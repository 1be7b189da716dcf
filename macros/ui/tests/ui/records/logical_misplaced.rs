gretchen::records!("../../../../macros/ui/tests/ui/records/logical_misplaced.avsc");

fn main() {}
