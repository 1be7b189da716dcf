gretchen::records!("../../../../macros/tests/ui/records/recursive.avsc");

fn main() {}
