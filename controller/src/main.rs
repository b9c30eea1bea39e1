//! The program of the controller.

fn main() -> std::process::ExitCode {
    catamaran_controller::run()
}
