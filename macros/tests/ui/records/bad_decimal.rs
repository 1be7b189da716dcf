gretchen::records!("../../../../macros/tests/ui/records/bad_decimal.avsc");

fn main() {}
