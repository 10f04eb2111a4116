// A minimal loader of a user: it fuses the experts of one layer and checks where expert 0 is.
#include <safefuse/safefuse.hpp>

#include <cstdio>
#include <cstring>
#include <vector>

namespace sf = safefuse;

int report(const sf::failure& failure) {
    std::puts(failure.message().c_str());
    return 1;
}

int main(int count, char** arguments) {
    const auto checkpoint = sf::checkpoint::open(count > 1 ? arguments[1] : "");
    if (!checkpoint) return report(checkpoint.error());
    const auto plan = sf::plan<sf::families::qwen2_moe>(*checkpoint, "model.layers.0.mlp.experts");
    if (!plan) return report(plan.error());
    const auto gate = checkpoint->find("model.layers.0.mlp.experts.0.gate_proj.weight");
    if (!gate) return report(gate.error());

    const auto gate_up = plan->output("gate_up_proj");
    if (!gate_up) return report(gate_up.error());
    std::vector<std::byte> fused(static_cast<std::size_t>(gate_up->size_bytes));
    if (const auto done = sf::fuse(*plan, "gate_up_proj", fused); !done)
        return report(done.error());
    if (fused.size() <= gate->size_bytes() ||
        std::memcmp(fused.data(), gate->bytes().data(), gate->size_bytes()) != 0)
        return 2;
    std::printf("safefuse %d.%d: %zu bytes\n", SAFEFUSE_VERSION_MAJOR, SAFEFUSE_VERSION_MINOR,
                fused.size());
}
