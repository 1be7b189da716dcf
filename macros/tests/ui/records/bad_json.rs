gretchen::records!("../../../../macros/tests/ui/records/bad_json.avsc");

fn main() {}
