gretchen::records!("../../../../macros/tests/ui/records/fields_clash.avsc");

fn main() {}
