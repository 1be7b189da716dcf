gretchen::records!("../../../../macros/ui/tests/ui/records/bad_decimal.avsc");

fn main() {}
