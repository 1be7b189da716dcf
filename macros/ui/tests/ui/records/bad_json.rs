gretchen::records!("../../../../macros/ui/tests/ui/records/bad_json.avsc");

fn main() {}
