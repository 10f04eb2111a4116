// Compiled once with each version of the library; SAFEFUSE_ODR_ASK is the name of the function that
// it defines.
#include "versions.hpp"

#include <safefuse/safefuse.hpp>

namespace sf = safefuse;

answer SAFEFUSE_ODR_ASK(const char* path) {
    answer found;
    found.failure_bytes = sizeof(sf::failure);
    found.refusal = sf::checkpoint::open("no such checkpoint").error().message().c_str();
    const auto checkpoint = sf::checkpoint::open(path);
    if (!checkpoint) return found;
    const auto plan = sf::plan<sf::families::qwen2_moe>(*checkpoint, "model.layers.0.mlp.experts");
    if (!plan) return found;
    const auto gate_up = plan->output("gate_up_proj");
    if (!gate_up) return found;
    found.fused.resize(static_cast<std::size_t>(gate_up->size_bytes));
    if (!sf::fuse(*plan, "gate_up_proj", found.fused)) found.fused.clear();
    return found;
}
