gretchen::records!("../../../../macros/ui/tests/ui/records/types_clash.avsc", namespace = flat);

fn main() {}
