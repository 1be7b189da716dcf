gretchen::records!("../../../../macros/ui/tests/ui/records/types_clash.avsc", namespaces = deep);

fn main() {}
