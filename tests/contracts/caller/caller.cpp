// Compiled to assembly by caller.cmake. Every function calls one public function and then doubles
// numbers, in a loop that the compiler must still vectorise.
#include <safefuse/safefuse.hpp>

namespace sf = safefuse;

#define THEN_DOUBLE \
    for (int i = 0; i < 4096; ++i) numbers[i] += numbers[i]

extern "C" {

void after_open(int* numbers, const char* path) {
    const auto checkpoint = sf::checkpoint::open(path);
    THEN_DOUBLE;
    numbers[0] += checkpoint.has_value();
}
void after_tensor_file(int* numbers, const char* path) {
    const auto file = sf::tensor_file::open(path);
    THEN_DOUBLE;
    numbers[0] += file.has_value();
}
void after_scopes(int* numbers, const sf::checkpoint& checkpoint) {
    const auto scopes =
        sf::experts_scopes::find(checkpoint, sf::description_of<sf::families::qwen2_moe>);
    THEN_DOUBLE;
    numbers[0] += scopes.has_value();
}
void after_plan(int* numbers, const sf::checkpoint& checkpoint) {
    const auto plan = sf::plan<sf::families::qwen2_moe>(checkpoint, "mlp.experts");
    THEN_DOUBLE;
    numbers[0] += plan.has_value();
}
void after_move(int* numbers, sf::copy_plan& from, sf::copy_plan& to) {
    to = static_cast<sf::copy_plan&&>(from);
    THEN_DOUBLE;
}
void after_fuse(int* numbers, const sf::copy_plan& plan, std::byte* to, std::size_t size_bytes) {
    const auto done = sf::fuse(plan, "down_proj", sf::span<std::byte>{to, size_bytes});
    THEN_DOUBLE;
    numbers[0] += done.has_value();
}
void after_text(int* numbers, sf::text& out) {
    out.append_number(7);
    THEN_DOUBLE;
}
}
