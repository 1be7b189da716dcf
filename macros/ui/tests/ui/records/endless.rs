gretchen::records!("../../../../macros/ui/tests/ui/records/endless.avsc");

fn main() {}
