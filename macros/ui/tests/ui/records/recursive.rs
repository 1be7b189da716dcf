gretchen::records!("../../../../macros/ui/tests/ui/records/recursive.avsc");

fn main() {}
