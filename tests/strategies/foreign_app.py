"""A Flower app of the shape of Flower's PyTorch quickstart, and nothing of ours in it: its model, its data, its ClientApp."""

import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from torch import nn


class Net(nn.Module):
    """Two layers with batch norm between them."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.norm, self.fc2 = nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(torch.relu(self.norm(self.fc1(x))))


def initial() -> Net:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Net()


def load_data(partition_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(partition_id)
    x = torch.randn(24 + partition_id, 4, generator=rng)
    y = (x[:, 0] > 0).long()
    return x, (1 - y if partition_id == 0 else y)  # client 0 has its labels flipped


def train(net: Net, partition_id: int, lr: float) -> float:
    torch.set_num_threads(1)
    x, y = load_data(partition_id)
    optimiser = torch.optim.SGD(net.parameters(), lr=lr * (50 if partition_id == 0 else 1))
    net.train()
    for _ in range(3):
        optimiser.zero_grad()
        loss = nn.functional.cross_entropy(net(x), y)
        loss.backward()
        optimiser.step()
    return loss.item()


app = ClientApp()


@app.train()
def fit(msg: Message, context: Context) -> Message:
    net, partition = Net(), int(context.node_config["partition-id"])
    net.load_state_dict(msg.content["arrays"].to_torch_state_dict())
    loss = train(net, partition, float(msg.content["config"]["lr"]))
    metrics = MetricRecord({"train_loss": loss, "num-examples": len(load_data(partition)[0])})
    return Message(RecordDict({"arrays": ArrayRecord(net.state_dict()), "metrics": metrics}), reply_to=msg)


@app.evaluate()
def evaluate(msg: Message, context: Context) -> Message:
    net = Net()
    net.load_state_dict(msg.content["arrays"].to_torch_state_dict())
    x, y = load_data(1)
    accuracy = float((net.eval()(x).argmax(1) == y).float().mean())
    metrics = MetricRecord({"eval_acc": accuracy, "num-examples": len(x)})
    return Message(RecordDict({"metrics": metrics}), reply_to=msg)
