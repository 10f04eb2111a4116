// Compiled once with each set of flags; SAFEFUSE_ODR_UNIT is the name of the function that it
// defines.
#include "flags.hpp"

namespace sf = safefuse;

namespace {

template <class... T>
void add(std::vector<std::size_t>& sizes) {
    (sizes.insert(sizes.end(), {sizeof(T), alignof(T)}), ...);
}

std::vector<std::size_t> sizes() {
    std::vector<std::size_t> found;
    add<sf::failure, sf::text, sf::result<void>, sf::result<sf::tensor_view>, sf::tensor_spec,
        sf::tensor_view, sf::header, sf::shard_index, sf::mapped_file, sf::positional_file,
        sf::tensor_file, sf::checkpoint, sf::copy_block, sf::plan_output, sf::copy_plan,
        sf::rewrite_plan, sf::model_config>(found);
    found.push_back(offsetof(sf::failure, os_error));
    found.push_back(offsetof(sf::copy_block, loops));
    return found;
}

sf::result<sf::checkpoint> open(const char* path) { return sf::checkpoint::open(path); }

sf::failure fail(const sf::checkpoint& checkpoint) {
    return checkpoint.find("no such tensor").error();
}

std::vector<std::byte> fuse(const sf::checkpoint& checkpoint) {
    const auto plan = sf::plan<sf::families::qwen2_moe>(checkpoint, "model.layers.0.mlp.experts");
    if (!plan) return {};
    const auto gate_up = plan->output("gate_up_proj");
    if (!gate_up) return {};
    std::vector<std::byte> fused(static_cast<std::size_t>(gate_up->size_bytes));
    if (!sf::fuse(*plan, "gate_up_proj", fused)) fused.clear();
    return fused;
}

}  // namespace

#define SAFEFUSE_ODR_TEXT_OF(name) #name
#define SAFEFUSE_ODR_TEXT(name) SAFEFUSE_ODR_TEXT_OF(name)
unit SAFEFUSE_ODR_UNIT() { return {SAFEFUSE_ODR_TEXT(SAFEFUSE_ODR_UNIT), sizes, open, fail, fuse}; }
