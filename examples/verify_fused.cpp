// Does a fused checkpoint hold exactly the bytes of the one it was made from? Neither is loaded.
#include "convert_checkpoint.hpp"

namespace sf = safefuse;

int main(int argc, char** argv) {
    command_line::arguments arguments{
        argc, argv,
        "usage: verify_fused UNFUSED FUSED [options]\n"
        "Compares every byte of FUSED with what fusing UNFUSED gives, and the names, dtypes and shapes.\n"
        "  --layout NAME         the family or model type; default: config.json's model_type, else from the names\n"
        "  --any-expert-count    do not ask for as many experts as config.json says (pruned checkpoints)\n"
        "  --quiet               say nothing but errors\n"};
    const std::string layout = arguments.value("--layout", "");
    const bool any_expert_count = arguments.flag("--any-expert-count"), quiet = arguments.flag("--quiet");
    if (!arguments.positional(2)) return arguments.status();

    const command_line::stopwatch watch;
    const auto unfused = sf::checkpoint::open(arguments[0]);
    if (!unfused) return command_line::report(unfused.error());
    const auto fused = sf::checkpoint::open(arguments[1]);
    if (!fused) return command_line::report(fused.error());
    const auto chosen = convert_checkpoint::choose_family(arguments[0], *unfused, layout, false, any_expert_count);
    if (!chosen) return command_line::report(chosen.error());
    const auto plan = sf::rewrite_plan::make(*unfused, chosen->family->fuse, chosen->options());
    if (!plan) return convert_checkpoint::report_plan(plan.error());
    {
        command_line::progress_display progress{quiet};
        if (auto same = sf::verify_rewritten(*plan, *fused, progress); !same) return command_line::report(same.error());
    }
    if (!quiet) {
        std::printf("%s: %zu tensors, each byte as in %s\n", command_line::printable(arguments[1]).c_str(),
                    plan->tensors().size(), command_line::printable(arguments[0]).c_str());
        command_line::summarise(plan->total_bytes(), watch);
    }
    return command_line::success;
}
