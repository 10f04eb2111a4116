// One object of each kind that the debugger views support; run.cmake stops where all of them exist.
#include <safefuse/tensor/tensor_view.hpp>

namespace sf = safefuse;

volatile int stopped = 0;
void stop_here() { stopped = 1; }

int main() {
    const std::byte bytes[12]{};
    const std::uint64_t extents[] = {2, 3};
    const sf::text name{"model.norm.weight"};
    const sf::text nothing;
    const auto view = sf::tensor_view::of(sf::dtype::bf16, extents, bytes);
    const auto refused = sf::tensor_view::of(sf::dtype::f32, extents, bytes);
    const sf::tensor_view inner = *view;
    const sf::failure failure{.code = sf::errc::data_truncated,
                              .file = "a.safetensors",
                              .tensor = "t",
                              .expected = 12,
                              .actual = 8,
                              .os_error = 5};
    const sf::result<void> done;
    stop_here();
    return name.empty() || !nothing.empty() || refused || inner.bytes().empty() ||
           failure.file.empty() || !done;
}
